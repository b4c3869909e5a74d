// Nothing is learnt yet.

export class Learner extends EventTarget {
  learning() {
    return { state: "off", message: "", round: 0, progress: 0, suggested_next: null };
  }

  finishing() {
    return { state: "off", message: "", command: "" };
  }

  async proposals() {
    return { round: 0, boxes: [], pending: false };
  }
}
