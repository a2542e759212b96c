/**
 * The anchor of a heading, as code hosts make it: lowercase, spaces to dashes, punctuation dropped.
 *
 * @param {string} title
 * @returns {string}
 */
export function slug(title) {
  return title
    .trim()
    .toLowerCase()
    .replace(/[^\p{L}\p{N}\p{M}_\- ]/gu, "")
    .replaceAll(" ", "-");
}
