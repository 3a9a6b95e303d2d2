// TPM 2.0 Library Part 3, 27: field upgrade.
import { admin, command, noAuth } from '../../command.js';
import { TPM_CC } from '../../constants/index.js';
import { uint32 } from '../../schema.js';
import {
  TPM2B_DIGEST,
  TPM2B_MAX_BUFFER,
  TPMI_DH_OBJECT,
  TPMI_RH_PLATFORM,
  TPMT_HA,
  TPMT_HA_PLUS,
  TPMT_SIGNATURE,
} from '../../structures/index.js';

export const FieldUpgradeStart = command(TPM_CC.FieldUpgradeStart, 'FieldUpgradeStart', {
  section: '27.2',
  handles: { authorization: admin(TPMI_RH_PLATFORM), keyHandle: noAuth(TPMI_DH_OBJECT) },
  in: { fuDigest: TPM2B_DIGEST, manifestSignature: TPMT_SIGNATURE },
});

export const FieldUpgradeData = command(TPM_CC.FieldUpgradeData, 'FieldUpgradeData', {
  section: '27.3',
  in: { fuData: TPM2B_MAX_BUFFER },
  out: { nextDigest: TPMT_HA_PLUS, firstDigest: TPMT_HA },
  nv: true,
});

export const FirmwareRead = command(TPM_CC.FirmwareRead, 'FirmwareRead', {
  section: '27.4',
  in: { sequenceNumber: uint32 },
  out: { fuData: TPM2B_MAX_BUFFER },
});
