# A tar of the files whose names come as input, each ended by a NUL. Arguments: root, cache, object.
place "$1" "$2"
cd "$runs/$3/work" || exit 1
if tar --null -cf /dev/null -T /dev/null 2>/dev/null; then
  exec tar --null -cf - -T -
fi
if tar -cf /dev/null -T /dev/null 2>/dev/null; then
  tr "\0" "\n" | tar -cf - -T -
  exit
fi
# A tar that takes no list of names gets them as words, as many as go into one command: two archives are not one.
# The first command takes this directory away, which needs no room on any disk, and whoever does not find it is a second.
once=$runs/.fetch-$$
mkdir "$once" || { say "cannot make $once: $full" >&2; exit 1; }
tidy() { rmdir "$once" 2>/dev/null; }
trap tidy EXIT
xargs -0 -n 1000000 -s 1000000 sh -c "rmdir \"\$0\" 2>/dev/null || exit 255; exec tar -cf - \"\$@\"" "$once" && exit
# What xargs ends with where a command says 255.
[ $? != 124 ] || say "too many outputs for the tar of this host, which takes no list of names: install GNU tar there" >&2
exit 1
