// TCG event logs: read strictly, and made into statements.
import assert from 'node:assert/strict';
import fc from 'fast-check';
import {
  encodeEventLog,
  EVENT_TYPE,
  EventLogError,
  parseEventLog,
  startupLocalityEvent,
  type TcgEvent,
} from '../../src/statements/event-log.js';
import { groupMeasurements } from '../../src/statements/from-event-log.js';
import { TPM_ALG } from '../../src/tpm/constants/index.js';
import { BANKS, digestOf } from '../properties/fixture.js';

const event = (pcr: number, type: number, text: string, banks: readonly number[] = BANKS): TcgEvent => ({
  pcr,
  type,
  digests: banks.map((bank) => ({ bank, digest: digestOf(bank, text) })),
  data: Buffer.from(text),
});
const { EV_EFI_BOOT_SERVICES_APPLICATION, EV_NO_ACTION, EV_SEPARATOR } = EVENT_TYPE;

describe('TCG event logs', () => {
  const events = [
    { pcr: 0, type: EV_NO_ACTION, digests: [], data: startupLocalityEvent(3) },
    event(4, EV_EFI_BOOT_SERVICES_APPLICATION, 'boot loader'),
    event(4, EV_SEPARATOR, 'separator'),
    event(7, EV_SEPARATOR, 'separator', [TPM_ALG.SHA256]),
    event(4, EV_EFI_BOOT_SERVICES_APPLICATION, 'kernel'),
    event(4, EV_EFI_BOOT_SERVICES_APPLICATION, 'kernel'),
  ];
  const bytes = encodeEventLog(BANKS, events);

  it('are read as they were written, with padding too', () => {
    const expected = { banks: [...BANKS], events, startupLocality: 3 };
    assert.deepEqual(parseEventLog(bytes), expected);
    assert.deepEqual(parseEventLog(Buffer.concat([bytes, Buffer.alloc(4096)])), expected);
  });

  it('any log followed by any amount of zeros or ones reads as the log', () => {
    const pcr = fc.nat(23);
    const data = fc.oneof(
      fc.uint8Array({ maxLength: 20 }).map((octets) => Buffer.from(octets)),
      fc.nat(20).map((size) => Buffer.alloc(size, 0xff)),
      fc.nat(20).map((size) => Buffer.alloc(size)),
    );
    const arbitraryEvent = fc.record({ pcr, data }).map((some) => ({ ...event(some.pcr, EV_SEPARATOR, 'x'), data: some.data }));
    const padding = fc.record({ size: fc.nat(5000), byte: fc.constantFrom(0, 0xff) }).map(({ size, byte }) => Buffer.alloc(size, byte));
    fc.assert(
      fc.property(fc.array(arbitraryEvent, { maxLength: 5 }), padding, (some, pad) => {
        const log = encodeEventLog(BANKS, some);
        assert.deepEqual(parseEventLog(Buffer.concat([log, pad])), { banks: [...BANKS], events: some, startupLocality: 0 });
      }),
    );
  });

  it('bytes that only begin as padding are refused', () => {
    for (const byte of [0, 0xff]) {
      const pad = Buffer.alloc(100, byte);
      pad[99] = 7;
      assert.throws(() => parseEventLog(Buffer.concat([bytes, pad])), EventLogError);
    }
  });

  it('every shorter one that does not end between events is refused', () => {
    const ends = events.map((_, i) => encodeEventLog(BANKS, events.slice(0, i)).length);
    const endsWell = (size: number): boolean => ends.some((end) => end <= size && bytes.subarray(end, size).every((byte) => byte === 0));
    for (let size = 0; size < bytes.length; size++) {
      if (endsWell(size)) parseEventLog(bytes.subarray(0, size));
      else assert.throws(() => parseEventLog(bytes.subarray(0, size)), EventLogError, size.toString());
    }
  });

  it('any bytes are a log or refused, in bounded time', () => {
    const change = fc.record({ at: fc.nat(bytes.length - 1), value: fc.nat(255) });
    fc.assert(
      fc.property(fc.array(change, { minLength: 1, maxLength: 8 }), (changes) => {
        const changed = Buffer.from(bytes);
        for (const { at, value } of changes) changed[at] = value;
        try {
          parseEventLog(changed);
        } catch (error) {
          assert.ok(error instanceof EventLogError, String(error));
        }
      }),
      { numRuns: 500 },
    );
  });

  it('become statements by PCR and type of event', () => {
    const groups = groupMeasurements(parseEventLog(bytes), { good: true });
    assert.deepEqual(
      groups.map(({ properties, subjects }) => [properties['tpm.pcr'], properties['tpm.event'], properties['good'], subjects.length]),
      [
        [4, 'EV_EFI_BOOT_SERVICES_APPLICATION', true, 2],
        [4, 'EV_SEPARATOR', true, 1],
        [7, 'EV_SEPARATOR', true, 1],
      ],
    );
    assert.deepEqual(Object.keys(groups[2]?.subjects[0]?.digest ?? {}), ['sha256']);
    const some = groupMeasurements(parseEventLog(bytes), { good: true }, { pcrs: new Set([7]), plain: true });
    assert.deepEqual(
      some.map(({ properties }) => properties),
      [{ good: true }],
    );
    const separators = groupMeasurements(parseEventLog(bytes), { good: true }, { types: new Set(['EV_SEPARATOR']) });
    assert.deepEqual(
      separators.map(({ properties }) => properties['tpm.pcr']),
      [4, 7],
    );
  });
});
