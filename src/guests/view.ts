// What users see of a guest.
import type { Answer } from '../api/endpoint.js';
import type { Api } from '../api/endpoints.js';

/** What users see of a guest. */
export type GuestView = Answer<Api['showGuest']>;
export type GuestState = GuestView['state'];
