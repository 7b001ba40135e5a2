collect_ignore = ["students"]  # files to be judged, none to be imported by the way
