// Prometheus metrics, read from where the numbers live at each scrape.
import { collectDefaultMetrics, Counter, Gauge, Registry } from 'prom-client';
import { CHIP_STATES } from '../hardware/chip/health.js';
import type { ChipView } from '../host/chip-view.js';
import type { GuestState } from '../guests/view.js';
import type { GuestRegistry } from '../guests/registry.js';

const STATES: readonly GuestState[] = ['off', 'running', 'failed'];

/** The registry behind `/metrics`. */
export function createMetrics(guests: GuestRegistry, chip: ChipView): Registry {
  const registry = new Registry();
  const registers = [registry];
  collectDefaultMetrics({ register: registry });
  new Gauge({
    name: 'tpmux_guests',
    help: 'Guests by state',
    labelNames: ['state'],
    registers,
    collect() {
      const states = guests.list().map((guest) => guest.state);
      for (const state of STATES) this.set({ state }, states.filter((each) => each === state).length);
    },
  });
  new Gauge({
    name: 'tpmux_guest_connections',
    help: 'Open connections by guest',
    labelNames: ['guest'],
    registers,
    collect() {
      this.reset();
      for (const guest of guests.list()) this.set({ guest: guest.meta.name }, guest.view().connections);
    },
  });
  new Counter({
    name: 'tpmux_guest_connections_ended_total',
    help: 'Connections that were refused or ended, by guest and reason',
    labelNames: ['guest', 'reason'],
    registers,
    collect() {
      this.reset();
      for (const guest of guests.list()) {
        for (const [reason, count] of guest.rejections) this.inc({ guest: guest.meta.name, reason }, count);
      }
    },
  });
  new Counter({
    name: 'tpmux_guest_provider_failures_total',
    help: 'Measurements that a property provider failed at since the guest was started, by guest and provider',
    labelNames: ['guest', 'provider'],
    registers,
    collect() {
      this.reset();
      for (const guest of guests.list()) {
        for (const { provider, failures } of guest.providerFailures()) this.inc({ guest: guest.meta.name, provider }, failures);
      }
    },
  });
  addGuestCommands(registry, guests);
  addChipCommands(registry, chip);
  return registry;
}

function addGuestCommands(registry: Registry, guests: GuestRegistry): void {
  const counter = (name: string, help: string, value: 'calls' | 'hardwareCommands', scale: number): void => {
    new Counter({
      name,
      help,
      labelNames: ['guest', 'command'],
      registers: [registry],
      collect() {
        this.reset();
        for (const guest of guests.list()) {
          if (guest.state !== 'running') continue;
          for (const row of guest.opened().counters()) this.inc({ guest: guest.meta.name, command: row.command }, row[value] * scale);
        }
      },
    });
  };
  new Counter({
    name: 'tpmux_guest_chip_refusals_total',
    help: 'Commands for keys of guests that the chip refused though it should not, by guest and chip command',
    labelNames: ['guest', 'command'],
    registers: [registry],
    collect() {
      this.reset();
      for (const guest of guests.list()) {
        if (guest.state !== 'running') continue;
        for (const [command, count] of guest.opened().chipRefusals()) this.inc({ guest: guest.meta.name, command }, count);
      }
    },
  });
  counter('tpmux_guest_commands_total', 'Commands of guests since each was started', 'calls', 1);
  counter('tpmux_guest_hardware_commands_total', 'Commands that the chip got for commands of guests', 'hardwareCommands', 1);
}

function addChipCommands(registry: Registry, chip: ChipView): void {
  const registers = [registry];
  new Counter({
    name: 'tpmux_chip_commands_total',
    help: 'Commands that the chip got, by chip command',
    labelNames: ['command'],
    registers,
    collect() {
      this.reset();
      for (const { command, hardwareCommands } of chip.counters()) this.inc({ command }, hardwareCommands);
    },
  });
  new Counter({
    name: 'tpmux_chip_seconds_total',
    help: 'Time that the chip took, by chip command',
    labelNames: ['command'],
    registers,
    collect() {
      this.reset();
      for (const { command, chipMilliseconds } of chip.counters()) this.inc({ command }, chipMilliseconds / 1000);
    },
  });
  new Gauge({
    name: 'tpmux_chip_state',
    help: '1 for the state that the chip is in',
    labelNames: ['state'],
    registers,
    collect() {
      const { state: now } = chip.condition();
      for (const state of CHIP_STATES) this.set({ state }, state === now ? 1 : 0);
    },
  });
  new Gauge({
    name: 'tpmux_chip_jobs',
    help: 'Jobs for the chip that wait or run',
    registers,
    collect() {
      this.set(chip.pending());
    },
  });
}
