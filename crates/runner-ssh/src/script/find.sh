# Names of all files and links in the workspace of a run, each ended by a NUL. Arguments: root, cache, object.
place "$1" "$2"
cd "$runs/$3/work" && find . "(" -type f -o -type l ")" -print0
