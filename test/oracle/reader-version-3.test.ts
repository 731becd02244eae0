/** Images of version 3 without a backing file. */

import { describeImages } from './describe-images.ts';
import { VERSION_3_CASES } from './matrix.ts';

describeImages(VERSION_3_CASES, ['data', 'compressed', 'zero', 'hole']);
