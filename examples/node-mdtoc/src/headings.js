/**
 * The headings of a Markdown text, in order.
 *
 * @param {string} text
 * @returns {{level: number, title: string, line: number}[]}
 */
export function headings(text) {
  const found = [];
  text.split(/\r?\n/).forEach((content, index) => {
    const match = /^ {0,3}(#{1,6})[ \t]+(.*?)(?:[ \t]+#+)?[ \t]*$/.exec(content);
    if (match && match[2] !== "") {
      found.push({ level: match[1].length, title: match[2], line: index + 1 });
    }
  });
  return found;
}
