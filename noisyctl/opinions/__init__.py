"""Is a given label right? Opinions on features, combined into one probability with a verdict.

`judge` is what everything else calls; it needs labels and vectors only: no truth, no noise rate, no file. The recipe and how
it compares with others on planted and human noise are in docs/results.md.
"""

from noisyctl.opinions.judgement import OPINIONS, Judgement, judge

__all__ = ["OPINIONS", "Judgement", "judge"]
