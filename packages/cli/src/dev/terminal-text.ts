import { stripVTControlCharacters } from 'node:util';

const TAB = '    ';

/**
 * What a terminal takes for an order and not for text: controls (C0, DEL, C1), line and paragraph separators, and the marks
 * that turn the direction of writing, by which a line could show something else than it says.
 */
const CONTROLS = /[\p{Cc}\u061C\u200E\u200F\u2028\u2029\u202A-\u202E\u2066-\u2069]/gu;

const segmenter = new Intl.Segmenter(undefined, { granularity: 'grapheme' });

/** One line of text from elsewhere as it may be shown on a terminal: nothing in it moves the cursor, colours or answers. */
export function plainText(text: string): string {
  return stripVTControlCharacters(text).replaceAll('\t', TAB).replaceAll(CONTROLS, '');
}

/** `text` in exactly `width` columns: cut, with `…` where something is missing, or filled up with spaces. */
export function fit(text: string, width: number): string {
  const cut = clip(text, width);
  return cut + ' '.repeat(Math.max(0, width - columnsOf(cut)));
}

/** `text` in at most `width` columns, with `…` where something is missing. */
export function clip(text: string, width: number): string {
  // An ASCII text is the usual case, and its columns are its characters.
  if (/^[\u0020-\u007E]*$/.test(text)) {
    if (text.length <= width) return text;
    return width < 1 ? '' : `${text.slice(0, width - 1)}…`;
  }
  if (columnsOf(text) <= width) return text;
  if (width < 1) return '';
  let cut = '';
  let columns = 0;
  for (const { segment } of segmenter.segment(text)) {
    columns += columnsOfGrapheme(segment);
    if (columns > width - 1) break;
    cut += segment;
  }
  return `${cut}…`;
}

/** `text` in lines of at most `width` columns, cut wherever they are full: what is to be copied is there to its end. */
export function wrap(text: string, width: number): string[] {
  const lines = [''];
  let columns = 0;
  for (const { segment } of segmenter.segment(text)) {
    columns += columnsOfGrapheme(segment);
    if (columns > width && columns > columnsOfGrapheme(segment)) {
      lines.push('');
      columns = columnsOfGrapheme(segment);
    }
    lines.push(`${lines.pop() ?? ''}${segment}`);
  }
  return lines;
}

function columnsOf(text: string): number {
  let columns = 0;
  for (const { segment } of segmenter.segment(text)) columns += columnsOfGrapheme(segment);
  return columns;
}

/** East Asian wide and full-width letters (Unicode's annex 11, its large blocks) and emoji take two columns. */
const WIDE =
  /^(?:\p{Emoji_Presentation}|\p{Extended_Pictographic}\uFE0F|[\u1100-\u115F\u2E80-\u303E\u3041-\u33FF\u3400-\u4DBF\u4E00-\uA4CF\uA960-\uA97F\uAC00-\uD7A3\uF900-\uFAFF\uFE30-\uFE6F\uFF00-\uFF60\uFFE0-\uFFE6\u{1B000}-\u{1B2FF}\u{20000}-\u{3FFFD}])/u;

function columnsOfGrapheme(grapheme: string): number {
  if (/^[\p{Mn}\p{Me}\p{Cf}]/u.test(grapheme)) return 0;
  return WIDE.test(grapheme) ? 2 : 1;
}
