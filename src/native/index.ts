// What Node lacks: the way to a TPM through tpm2-tss, descriptor passing, peer credentials, sd_notify.
export {
  closeFd,
  MAX_MESSAGE_FDS,
  MAX_RECEIVE_BYTES,
  peerCredentials,
  hasInput,
  quickAck,
  recvWithFds,
  sendWithFds,
  socketPair,
} from './descriptors.js';
export type { PeerCredentials, Received } from './descriptors.js';
export { ExchangeMemory, type ExchangePhase, type ExchangeSizes } from './exchange-memory.js';
export { sdNotify } from './notify.js';
export {
  bindDatagram,
  describeSocket,
  duplicateFd,
  listenUnix,
  setCloseOnExec,
  shutdownSocket,
  type SocketDescription,
} from './sockets.js';
export { MAX_FRAME_BYTES, Tcti } from './tcti.js';
export { TctiError, TSS2_TCTI_RC } from './tcti-error.js';
export { createVtpmProxy, type VtpmProxy } from './vtpmx.js';
export { DescriptorWatch } from './watch.js';
