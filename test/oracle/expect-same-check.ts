/** Compares the check of an image with that of QEMU. */

import { expect } from 'vitest';
import { exitCodeOf } from '../../src/cli/check-command.ts';
import { Qcow2fsError } from '../../src/errors.ts';
import { checkImage, type ImageCheck } from '../../src/open-image/check-image.ts';
import type { CheckOptions } from '../../src/qcow2/check/check-qcow2.ts';
import { type CheckReport, checkWithQemu } from './qemu.ts';

export interface Verdict {
  readonly status: number;
  readonly check: ImageCheck | undefined;
}

/** The check of this program, and the exit code that it gives. */
export function checkHere(imagePath: string, options?: CheckOptions): Verdict {
  try {
    const check = checkImage(imagePath, options);
    return { status: exitCodeOf(check), check };
  } catch (error) {
    if (error instanceof Qcow2fsError) return { status: 1, check: undefined };
    throw error;
  }
}

/**
 * Expects the same verdict and the same counts. Corruptions that QEMU does not see are counted apart, see
 * native-notes/check.md. Returns QEMU's exit code.
 */
export function expectSameCheck(
  imagePath: string,
  where: string,
  options?: CheckOptions,
  imageOptions?: readonly string[],
): number | null {
  const oracle = checkWithQemu(imagePath, imageOptions);
  const { status, check } = checkHere(imagePath, options);
  if (oracle.counts === undefined || oracle.status === 1) {
    // QEMU gave up: this program may go on, but must not call such an image clean.
    expect([1, 2], `${where}: ${oracle.stderr}`).toContain(status);
    return oracle.status;
  }
  if (check === undefined) throw new Error(`${where}: not checked, but QEMU says ${JSON.stringify(oracle.counts)}`);
  const ownFindings = (check.countsByKind.overlap ?? 0) + (check.countsByKind['zero-flag'] ?? 0);
  const detail = () => `${where}\n${JSON.stringify(check, null, 1)}\n${oracle.stderr.slice(0, 5000)}`;
  expect(countsOf(check, ownFindings), detail()).toEqual(countsOfQemu(oracle));
  if (ownFindings === 0) expect(status, detail()).toBe(oracle.status);
  else expect(status).toBe(2);
  return oracle.status;
}

function countsOf(check: ImageCheck, ownFindings: number) {
  return {
    corruptions: check.corruptionCount - ownFindings,
    leaks: check.leakedClusterCount,
    checkErrors: check.uncheckedCount,
    allocated: check.allocatedClusters,
    compressed: check.compressedClusters,
    fragmented: check.fragmentedClusters,
    total: check.totalClusters,
    end: check.imageEndBytes,
  };
}

/** QEMU leaves out counts that are zero. */
function countsOfQemu({ counts = {} }: CheckReport) {
  return {
    corruptions: counts.corruptions ?? 0,
    leaks: counts.leaks ?? 0,
    checkErrors: counts['check-errors'] ?? 0,
    allocated: counts['allocated-clusters'] ?? 0,
    compressed: counts['compressed-clusters'] ?? 0,
    fragmented: counts['fragmented-clusters'] ?? 0,
    total: counts['total-clusters'] ?? 0,
    end: counts['image-end-offset'] ?? 0,
  };
}
