// The last responses to commands that changed something, kept with the change: who asks for one after the process was killed gets it.
import type { SectionChange } from '../../store/journal-record.js';
import type { Sections } from './section.js';

/** More than commands can have been answered by the vTPM, and not been taken by its transport yet. */
const SIZE = 8;
const PREFIX = 'answer/';
/** Number of the answer (4) and token (4) come before the response. */
const TOKEN_AT = 4;
const RESPONSE_AT = 8;

/** Responses by the token of their command: 32 bits that its transport chose; 0 is none. */
export class ReplyCache {
  private readonly answers = new Map<string, Buffer>();
  private next = 0;

  /** Remembers a response, in place of the oldest. What is to be written of it. */
  add(token: number, response: Buffer): SectionChange {
    const bytes = Buffer.alloc(RESPONSE_AT + response.length);
    bytes.writeUInt32BE(this.next);
    bytes.writeUInt32BE(token, TOKEN_AT);
    response.copy(bytes, RESPONSE_AT);
    const key = `${PREFIX}${(this.next % SIZE).toString()}`;
    this.next = (this.next + 1) >>> 0;
    this.answers.set(key, bytes);
    return { kind: 'set', key, bytes };
  }

  /** All of it, for a journal that is written anew. */
  all(): SectionChange[] {
    return [...this.answers].map(([key, bytes]) => ({ kind: 'set', key, bytes }));
  }

  /** Takes over what a process before this one wrote. */
  restore(sections: Sections): void {
    this.answers.clear();
    this.next = 0;
    for (const [key, bytes] of sections) {
      if (!key.startsWith(PREFIX) || bytes.length < RESPONSE_AT) continue;
      this.answers.set(key, Buffer.from(bytes));
      this.next = Math.max(this.next, (bytes.readUInt32BE() + 1) >>> 0);
    }
  }

  /** The response to the command with this token, if it is known. */
  find(token: number): Buffer | undefined {
    const found = [...this.answers.values()].find((bytes) => bytes.readUInt32BE(TOKEN_AT) === token);
    return token === 0 || found === undefined ? undefined : Buffer.from(found.subarray(RESPONSE_AT));
  }
}
