import { sign, verify } from 'node:crypto';
import { fingerprint, type NarInfo, type PublicKey, type SecretKey } from '@nex-nix/nix';
import type { Receipt } from '../protocol/protocol.ts';

/** Confirms that the content of a path was verified after it was claimed at `revision`. */
export function makeReceipt({ secretKey }: { secretKey: SecretKey }, info: NarInfo, revision: number): Receipt {
  return { revision, signature: sign(null, statement(info, revision), secretKey.key).toString('base64') };
}

/** Whether a receipt is of this cache, and of this path with this content and these references. */
export function isReceiptFor({ publicKey }: { publicKey: PublicKey }, info: NarInfo, receipt: Receipt): boolean {
  const signature = Buffer.from(receipt.signature, 'base64');
  return verify(null, statement(info, receipt.revision), publicKey.key, signature);
}

/** No fingerprint of a path begins like this, so that a receipt cannot pass for the signature of a path. */
function statement(info: NarInfo, revision: number): Buffer {
  return Buffer.from(`verified;${revision};${fingerprint(info)}`);
}
