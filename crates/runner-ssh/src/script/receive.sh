# Takes what changed in a workspace, as a tar, into the copy kept for the project, and copies that into a
# staged run. Arguments: root, cache, key of the project, generation the change is against (- for none), stage.
place "$1" "$2"
kept=$cache/workspace/$3
against=$4
work=$runs/.new-$5/work
new=$kept/.new-$5
identify
mkdir -p "$kept" && cd "$kept" && mkdir "$new" || { fail "cannot make $kept"; exit; }

tidy() {
  rm -rf "$new"
  [ "$(readlink lock)" != "$own" ] || rm -f lock
}
trap tidy EXIT

# One at a time; whoever died holding the lock has lost it.
lock() {
  until ln -s "$own" lock 2>/dev/null; do
    holder=$(readlink lock)
    life_of "$holder"
    if [ -n "$holder" ] && [ "$life" != alive ]; then rm -f lock; else sleep 0.1; fi
  done
}

(umask "$umask_was"; tar -xf - -C "$new" -o) || { fail "the files did not arrive whole"; exit; }
[ -e "$new/meta/end" ] || { fail "the files did not arrive whole"; exit; }
lock
generation=-
if line_of generation; then generation=$line; fi
[ "$against" = - ] || [ "$generation" = "$against" ] || { say stale; exit; }
# Until the new manifest is there, nobody may believe the old one.
rm -f generation
if [ "$against" = - ]; then rm -rf tree; fi
mkdir -p tree "$new/tree" || { fail "cannot make $kept/tree"; exit; }
(cd tree && xargs -0 rm -rf -- < "$new/meta/delete") &&
  cp -RPp "$new/tree/." tree/ &&
  mv "$new/meta/manifest" manifest &&
  cp -RPp tree/. "$work/" || { fail "cannot copy the files on the host; is its disk full?"; exit; }
say "${new##*/.new-}" > .generation && mv .generation generation
say received
