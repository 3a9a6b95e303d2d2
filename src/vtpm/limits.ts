// How much of everything one guest may have is a matter of its policy.
export { defaultLimits, type Limits } from '../config/limits.js';
