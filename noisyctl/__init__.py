"""The library: what noisyctl computes, without command line, paths or YAML."""
