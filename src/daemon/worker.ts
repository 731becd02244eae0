/** Entry of a worker thread. */

import { workerData } from 'node:worker_threads';
import { serve } from './serve.ts';
import { createFileSystem } from './served-images.ts';
import type { WorkerData } from './worker-messages.ts';

serve(workerData as WorkerData, createFileSystem);
