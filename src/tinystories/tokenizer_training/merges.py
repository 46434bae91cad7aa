"""Learn the merges of a byte-level BPE from counted words: those that `tokenizers`' trainer learns from the text.

Its trainer takes text alone, and to count the words takes it more than nine tenths of its time.
"""

import heapq
from collections import defaultdict
from collections.abc import Mapping
from itertools import pairwise

from tokenizers import Tokenizer, models, pre_tokenizers

from tinystories.common.special_tokens import END_OF_TEXT
from tinystories.tokenization.tokenizer import byte_values, untrained_tokenizer

MIN_COUNT = 2  # of a pair that is merged

Pair = tuple[int, int]


def learn_merges(counts: Mapping[bytes, int], vocab_size: int) -> Tokenizer:
    """Make a tokenizer of at most `vocab_size` entries: `<|endoftext|>`, the 256 bytes, then merges.

    Each step merges the most frequent pair of neighbours; of equal ones that with the smallest ids. It follows
    `tokenizers`' BpeTrainer::do_train, also where a merge gives an entry that another merge has given before.
    """
    entries = [END_OF_TEXT, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    number_of = {entry: number for number, entry in enumerate(entries)}
    ids = {byte: number_of[letter] for letter, byte in byte_values().items()}
    words = [[ids[byte] for byte in word] for word in counts]
    word_counts = list(counts.values())
    pair_counts: defaultdict[Pair, int] = defaultdict(int)
    places: defaultdict[Pair, list[int]] = defaultdict(list)  # of a pair: the words that may have it, some twice
    for index, word in enumerate(words):
        for pair in pairwise(word):
            pair_counts[pair] += word_counts[index]
            places[pair].append(index)
    queue = [(-pair_counts[pair], pair, indices) for pair, indices in places.items()]
    heapq.heapify(queue)
    merges: dict[Pair, None] = {}
    while queue and len(entries) < vocab_size:
        negative, pair, indices = heapq.heappop(queue)
        if -negative != pair_counts[pair]:  # it has changed since it was queued
            heapq.heappush(queue, (-pair_counts[pair], pair, indices))
            continue
        if -negative < MIN_COUNT:
            break
        entry = entries[pair[0]] + entries[pair[1]]
        new = number_of.setdefault(entry, len(entries))
        if new == len(entries):
            entries.append(entry)
        merges.pop(pair, None)  # a pair merged again counts as the later of the two
        merges[pair] = None
        places = defaultdict(list)
        for index in indices:
            _merge(words[index], pair, new, word_counts[index], pair_counts, places, index)
        for created, indices in places.items():
            if pair_counts[created] > 0:
                heapq.heappush(queue, (-pair_counts[created], created, indices))
    tokenizer = untrained_tokenizer()
    tokenizer.model = models.BPE(vocab=number_of, merges=[(entries[a], entries[b]) for a, b in merges])
    tokenizer.add_special_tokens([END_OF_TEXT])
    return tokenizer


def _merge(
    word: list[int],
    pair: Pair,
    new: int,
    count: int,
    pair_counts: defaultdict[Pair, int],
    places: defaultdict[Pair, list[int]],
    index: int,
) -> None:
    """Replace the pair in a word by `new`, from left to right, and bring the counts of its neighbours up to date."""
    first, second = pair
    at = 0
    while at < len(word) - 1:
        if word[at] == first and word[at + 1] == second:
            word[at : at + 2] = [new]
            if at > 0:
                left = word[at - 1]
                pair_counts[left, first] -= count
                pair_counts[left, new] += count
                places[left, new].append(index)
            if at < len(word) - 1:
                right = word[at + 1]
                pair_counts[second, right] -= count
                pair_counts[new, right] += count
                places[new, right].append(index)
        at += 1
