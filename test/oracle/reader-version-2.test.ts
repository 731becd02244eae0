/** Images of version 2, which has no zero clusters and cannot be resized while it has snapshots. */

import { describeImages } from './describe-images.ts';
import { VERSION_2_CASES } from './matrix.ts';

describeImages(VERSION_2_CASES, ['data', 'compressed', 'hole']);
