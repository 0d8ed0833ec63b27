# Takes what changed in a workspace, as a tar, into the copy kept for the project, and copies that into a
# staged run. Arguments: root, cache, key of the project, generation the change is against (- for none), stage.
place "$1" "$2"
kept=$cache/workspace/$3
against=$4
work=$runs/.new-$5/work
new=$kept/.new-$5
identify
# Whoever sends may be gone before we can say what came of it; that must not keep us from tidying up.
trap "" PIPE
mkdir -p "$kept" && cd "$kept" && mkdir "$new" || { fail "cannot make $kept: $full"; exit; }

mine="$own $node"

tidy() {
  rm -rf "$new"
  [ "$(readlink lock)" != "$mine" ] || rm -f lock
  [ "$(readlink breaking)" != "$mine" ] || rm -f breaking
}
trap tidy EXIT

# Whether whoever holds this lock may still be at work.
held() {
  holder=$(readlink "$1")
  case $holder in
    "") return 0 ;;
    *" "*) life_at "${holder%% *}" "${holder#* }" "" ;;
    *) life_at "$holder" "" "" ;;
  esac
  case $life in alive|elsewhere) return 0 ;; *) return 1 ;; esac
}

# One at a time; whoever died holding the lock has lost it. It is broken under a right of its own and only if it is still
# the same: two who saw the same dead holder would break each other.
lock() {
  patience=600
  until ln -s "$mine" lock 2>/dev/null; do
    if held lock; then
      if [ -n "$holder" ] && [ "$life" = elsewhere ]; then patience=$((patience - 1)); fi
      [ $patience -gt 0 ] || { fail "$there holds $kept/lock and cannot be seen from $node; wait for it, or remove that file if nothing of it is left"; exit; }
      sleep 0.1
      continue
    fi
    dead=$holder
    if ln -s "$mine" breaking 2>/dev/null; then
      [ "$(readlink lock)" != "$dead" ] || rm -f lock
      rm -f breaking
    elif ! held breaking; then rm -f breaking
    else sleep 0.1
    fi
  done
}

(umask "$umask_was"; tar -xf - -C "$new" -o) || { fail "the files did not arrive whole; $full"; exit; }
[ -e "$new/meta/end" ] || { fail "the files did not arrive whole; $full"; exit; }
lock
generation=-
if line_of generation; then generation=$line; fi
[ "$against" = - ] || [ "$generation" = "$against" ] || { say stale; exit; }
# Until the new manifest is there, nobody may believe the old one.
rm -f generation
if [ "$against" = - ]; then rm -rf tree; fi
mkdir -p tree "$new/tree" || { fail "cannot make $kept/tree: $full"; exit; }
(cd tree && xargs -0 rm -rf -- < "$new/meta/delete") &&
  cp -RPp "$new/tree/." tree/ &&
  mv "$new/meta/manifest" manifest &&
  cp -RPp tree/. "$work/" || { fail "cannot copy the files on the host: $full"; exit; }
say "${new##*/.new-}" > .generation && mv .generation generation
say received
