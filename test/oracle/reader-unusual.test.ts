/** Cluster sizes, refcount widths and combinations of features that are seldom met. */

import { describeImages } from './describe-images.ts';
import { UNUSUAL_CASES } from './matrix.ts';

describeImages(UNUSUAL_CASES, ['data', 'compressed', 'zero', 'hole']);
