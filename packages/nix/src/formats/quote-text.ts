const SHOWN_MAX = 300;

/** `text` in quotes for an error message; of a long one, which may come from anywhere, only the beginning. */
export function quoteText(text: string): string {
  return JSON.stringify(text.length > SHOWN_MAX ? `${text.slice(0, SHOWN_MAX)}…` : text);
}
