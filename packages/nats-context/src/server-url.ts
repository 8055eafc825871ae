const DEFAULT_URL = 'nats://127.0.0.1:4222';

export interface ServerUrls {
  /** URLs without user, password or token: safe to show. */
  servers: string[];
  /** What the first URL that had one said before its `@`. */
  userInfo?: { user: string; password: string } | { token: string };
}

/** Splits a comma separated list of URLs and takes the credentials out of them. An empty list is the default server. */
export function parseServerUrls(list: string): ServerUrls {
  const urls = list
    .split(',')
    .map((url) => url.trim())
    .filter((url) => url !== '');
  const parts = (urls.length === 0 ? [DEFAULT_URL] : urls).map(splitUrl);
  const userInfo = parts.find((part) => part.userInfo !== undefined)?.userInfo;
  const servers = parts.map((part) => part.url);
  return userInfo === undefined ? { servers } : { servers, userInfo };
}

function splitUrl(text: string): { url: string; userInfo?: NonNullable<ServerUrls['userInfo']> } {
  const start = text.indexOf('://');
  const scheme = start === -1 ? 'nats' : text.slice(0, start).toLowerCase();
  const rest = start === -1 ? text : text.slice(start + '://'.length);
  const at = rest.lastIndexOf('@');
  const url = `${scheme}://${rest.slice(at + 1)}`;
  if (at === -1) return { url };
  const info = rest.slice(0, at);
  const colon = info.indexOf(':');
  if (colon === -1) return { url, userInfo: { token: unescape(info) } };
  return { url, userInfo: { user: unescape(info.slice(0, colon)), password: unescape(info.slice(colon + 1)) } };
}

/** Percent-decoding that leaves alone what is not percent-encoded text. */
function unescape(text: string): string {
  return text.replaceAll(/(?:%[0-9a-f]{2})+/gi, (bytes) => Buffer.from(bytes.replaceAll('%', ''), 'hex').toString());
}
