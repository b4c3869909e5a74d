// What a person can cure: what is wrong, and what to do.

export class ReaderError extends Error {
  constructor(message, hint = "") {
    super(message);
    this.hint = hint;
  }
}

/** An error in one line. */
export const inWords = ({ message, hint }) => (hint ? `${message}; ${hint}` : message);
