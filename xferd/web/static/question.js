/**
 * A question before what hurts.
 */

import { byId, hide, optional, text } from "./rows.js";

const dialog = byId("question");
let answer = () => {};

byId("question-no").addEventListener("click", () => dialog.close());
byId("question-form").addEventListener("submit", () => answer({ checked: byId("question-check").checked }));
dialog.addEventListener("close", () => answer(false));

/**
 * Ask whether to do something.
 *
 * @param title what is to be done, as a question
 * @param details what it entails, or a promise of that
 * @param yes the label of the button that does it
 * @param check the label of a box to check, if there is one
 * @returns a promise of false, or of {checked}
 */
export function question(title, details, yes, check) {
  text(byId("question-title"), title);
  optional(byId("question-text"), typeof details === "string" ? details : "");
  text(byId("question-yes"), yes);
  hide(byId("question-choice"), !check);
  text(byId("question-label"), check ?? "");
  byId("question-check").checked = false;
  dialog.showModal();
  byId("question-no").focus();
  const given = new Promise((resolve) => { answer = resolve; });
  if (typeof details !== "string") {
    const asked = answer;
    details.then((words) => { if (answer === asked) optional(byId("question-text"), words); }, () => {});
  }
  return given;
}
