// Random numbers as PyTorch draws them, so that a seed draws the same background here as there.
//
// Matsumoto and Nishimura, "Mersenne Twister", 1998: 624 words of state, tempered on the way out.

const LENGTH = 624;
const AHEAD = 397;

export class Generator {
  #state = new Uint32Array(LENGTH);
  #next = LENGTH;

  /** As `torch.Generator().manual_seed(seed)`. */
  constructor(seed) {
    const state = this.#state;
    state[0] = seed;
    for (let i = 1; i < LENGTH; i++) {
      state[i] = Math.imul(1812433253, state[i - 1] ^ (state[i - 1] >>> 30)) + i;
    }
  }

  /** A whole number from 0 to 2**32 - 1. */
  next() {
    if (this.#next === LENGTH) this.#twist();
    let y = this.#state[this.#next++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  }

  #twist() {
    const state = this.#state;
    for (let i = 0; i < LENGTH; i++) {
      const y = (state[i] & 0x80000000) | (state[(i + 1) % LENGTH] & 0x7fffffff);
      state[i] = state[(i + AHEAD) % LENGTH] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
    }
    this.#next = 0;
  }

  /** 0 to `count` - 1 in random order: as `torch.randperm`. */
  permutation(count) {
    const order = Uint32Array.from({ length: count }, (_, i) => i);
    for (let i = 0; i < count - 1; i++) {
      const other = i + (this.next() % (count - i));
      [order[i], order[other]] = [order[other], order[i]];
    }
    return order;
  }
}
