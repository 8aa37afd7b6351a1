"""Making the network a survey's own: `astrotriton adapt`.

`survey` reads difference exposures and measures their PSF and noise, `injection` puts transients
whose truth is known into them, `finetuning` lets the champion learn from these, and `adapt` goes
the whole way: three parts of the exposures, one to learn from, one to fit the confidence on, and
one to compare before and after.
"""
