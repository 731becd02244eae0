/** Images over backing files that are shorter, longer and oddly sized. */

import { describeImages } from './describe-images.ts';
import { BACKING_CASES } from './matrix.ts';

describeImages(BACKING_CASES, ['data', 'compressed', 'zero', 'hole']);
