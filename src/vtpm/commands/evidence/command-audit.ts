// TPM 2.0 Library Part 3, 21: command audit (GetCommandAuditDigest is with the attestation commands).
import type { SetCommandCodeAuditStatus } from '../../../tpm/commands/index.js';
import { TPM_ALG } from '../../../tpm/constants/index.js';
import { TPM_RC } from '../../../tpm/response-code.js';
import type { Handler, Handlers } from '../../dispatch/handler.js';

/** 21.2: codes of commands that are not served are passed over. */
const setCommandCodeAuditStatus: Handler<typeof SetCommandCodeAuditStatus> = ({ commandAudit }, { auditAlg, setList, clearList }, call) => {
  if (auditAlg !== TPM_ALG.NULL && auditAlg !== commandAudit.alg) {
    if (setList.length > 0 || clearList.length > 0) throw call.error(TPM_RC.VALUE, 'auditAlg');
    commandAudit.setAlgorithm(auditAlg);
    return;
  }
  const isServed = (code: number): boolean => call.served.has(code);
  commandAudit.setCommands(setList.filter(isServed), clearList.filter(isServed));
};

export const commandAuditHandlers = { SetCommandCodeAuditStatus: setCommandCodeAuditStatus } satisfies Partial<Handlers>;
