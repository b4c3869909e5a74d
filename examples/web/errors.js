// What a person can cure: what is wrong, and what to do.

export class ReaderError extends Error {
  constructor(message, hint = "") {
    super(message);
    this.hint = hint;
  }
}
