"""What is given away of a version, so that others can check it: ``make release`` puts it together.

`artefacts` builds the wheel, the source distribution and the chart, the same bytes each time;
`sbom` lists what is in each image, with licences; `provenance` says what the files were made from.
"""
