"""Tables of scored responses, a row per prompt and response: the one reader, for `world=scores` and for `sim.audit`.

* `wanted`   which columns are read, and what each is for
* `cells`    cells as Python values (JSON, columns of objects) as Arrow arrays
* `formats`  files: CSV, Parquet, JSON Lines, in batches of a few megabytes
* `frames`   tables in memory: pandas, and whatever hands out Arrow batches
* `numbers`  a column as floats; what counts as missing
* `ids`      a column as text: identifiers, as they are written
* `reading`  a file or frame becomes numbers, codes and hashes, held in memory
* `prompts`  rows become prompts with responses: repeats, weights, reference probabilities

What a new format needs is a function in `formats` that yields batches; what is missing, and what an identifier is, it
does not decide.
"""
