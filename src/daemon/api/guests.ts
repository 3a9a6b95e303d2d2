// Serves guests and their PCRs.
import { EXIT, Failure } from '../../failure.js';
import { pcrLogView } from '../../guests/pcr-log-view.js';
import type { Guest } from '../../guests/guest.js';
import type { GuestView } from '../../guests/view.js';
import type { ApiHandler, ApiHandlers, ApiSubject } from './handler.js';

/** Has something done to a guest, and shows it then. */
function shown(act: (guest: Guest) => Promise<void>) {
  return async ({ guests }: ApiSubject, { params }: { readonly params: { readonly name: string } }): Promise<GuestView> => {
    const guest = guests.get(params.name);
    await act(guest);
    return guest.view();
  };
}

const readPcrs: ApiHandler<'readPcrs'> = ({ guests }, { params: { name }, query: { bank: wanted } }) => {
  const banks = guests.get(name).opened().pcrs();
  if (wanted !== undefined && !banks.some(({ bank }) => bank === wanted)) {
    const known = banks.map(({ bank }) => bank).join(', ');
    throw new Failure({
      code: 'no_bank',
      what: `PCR bank ${wanted}`,
      why: `guest ${name} has no such bank`,
      hint: `it has: ${known}`,
      exit: EXIT.usage,
    });
  }
  const shown = wanted === undefined ? banks : banks.filter(({ bank }) => bank === wanted);
  return { guest: name, banks: Object.fromEntries(shown.map(({ bank, values }) => [bank, values.map((value) => value.toString('hex'))])) };
};

export const guestHandlers = {
  listGuests: ({ guests }) => ({ guests: guests.list().map((guest) => guest.view()) }),
  createGuest: async ({ guests }, { body: { name, policy, start, recoveryKey, ...listen } }) => {
    const guest = await guests.create({ name, policy, start, recoveryKey, listen });
    return guest.view();
  },
  showGuest: ({ guests }, { params }) => guests.get(params.name).view(),
  removeGuest: async ({ guests }, { params: { name } }) => {
    await guests.remove(name);
    return { removed: name };
  },
  startGuest: shown((guest) => guest.start()),
  stopGuest: shown((guest) => guest.stop()),
  resetGuest: shown((guest) => guest.reset()),
  attachDevice: shown((guest) => guest.attachDevice()),
  detachDevice: shown((guest) => guest.detachDevice()),
  readPcrs,
  readPcrLog: ({ guests }, { params: { name } }) => pcrLogView(name, guests.get(name).opened().pcrLog()),
  readCounters: ({ guests }, { params: { name } }) => ({ guest: name, commands: guests.get(name).opened().counters() }),
} satisfies Partial<ApiHandlers>;
