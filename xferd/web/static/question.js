/**
 * A question before what hurts.
 */

import { optional, text } from "./rows.js";

const byId = (id) => document.getElementById(id);
const dialog = byId("question");
let answer = () => {};

byId("question-no").addEventListener("click", () => dialog.close());
byId("question-form").addEventListener("submit", () => answer(true));
dialog.addEventListener("close", () => answer(false));

/**
 * Ask whether to do something.
 *
 * @param title what is to be done, as a question
 * @param details what it entails, or a promise of that
 * @param yes the label of the button that does it
 * @returns a promise of true or false
 */
export function question(title, details, yes) {
  text(byId("question-title"), title);
  optional(byId("question-text"), typeof details === "string" ? details : "");
  text(byId("question-yes"), yes);
  dialog.returnValue = "";
  dialog.showModal();
  byId("question-no").focus();
  const given = new Promise((resolve) => { answer = resolve; });
  if (typeof details !== "string") {
    const asked = answer;
    details.then((words) => { if (answer === asked) optional(byId("question-text"), words); }, () => {});
  }
  return given;
}
