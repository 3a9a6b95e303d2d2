// Property tests choose the same values in every run, so that a run tells of a change and of nothing else; see {@link runSeed}.
import fc from 'fast-check';
import { runSeed } from './support/random-walk.js';

fc.configureGlobal({ seed: runSeed });
