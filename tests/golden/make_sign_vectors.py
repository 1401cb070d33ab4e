#!/usr/bin/env python3
"""Test vectors of the random signs z (runtime/kernels/signs.h), from Philox 4x32-10 as its paper has
it (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"). Prints them as
tests/kernels/test_kernels_curvature.cc and docs/adahessian.md hold them."""

WORD = 0xFFFFFFFF


def philox(counter, key):
    c, k = list(counter), list(key)
    for _ in range(10):
        high0, low0 = divmod(0xD2511F53 * c[0], 1 << 32)
        high1, low1 = divmod(0xCD9E8D57 * c[2], 1 << 32)
        c = [high1 ^ c[1] ^ k[0], low1, high0 ^ c[3] ^ k[1], low0]
        k = [(k[0] + 0x9E3779B9) & WORD, (k[1] + 0xBB67AE85) & WORD]
    return c


def signs(seed, tensor, draw, first, count):
    text = ""
    for e in range(first, first + count):
        block = e // 128
        words = philox([block & WORD, block >> 32, tensor, draw], [seed & WORD, seed >> 32])
        text += "-" if words[e % 128 // 32] >> e % 32 & 1 else "+"
    return text


def main():
    # Known answers that the authors publish with Random123.
    assert philox([0] * 4, [0] * 2) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    assert philox([WORD] * 4, [WORD] * 2) == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]
    for seed, tensor, draw, first in [(0, 0, 1, 0), (1234, 7, 10, 0),
                                      (987654321012, 147, 1000000, 4096)]:
        print(seed, tensor, draw, first, signs(seed, tensor, draw, first, 48))


if __name__ == "__main__":
    main()
