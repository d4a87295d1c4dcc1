from bench.samples import Results
def read(found): return found
def markdown(found): return ""
