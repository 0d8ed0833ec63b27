# Takes a supervisor from its input: whole, checked by its SHA-256, and proven to run here.
# Arguments: root, cache, sha256, subcommand.
place "$1" "$2"
dir=$cache/supervisor/$3
mkdir -p "$dir" || { fail "cannot make $dir"; exit; }
new=$dir/.new-$$
tidy() { rm -f "$new"; }
trap tidy EXIT
cat > "$new" || { fail "no room for it"; exit; }
sum=$(sha256sum < "$new") || { fail "this host has no sha256sum"; exit; }
[ "${sum%% *}" = "$3" ] || { fail "it did not arrive whole"; exit; }
chmod 700 "$new" && mv "$new" "$dir/qwex" || { fail "cannot write to $dir"; exit; }
# A supervisor without a directory says so, and by that that it can run.
said=$("$dir/qwex" "$4" /nonexistent/qwex < /dev/null 2>&1 | head -n 1)
case $said in
  error:*) : > "$dir/ok"; say "binary ready" ;;
  *)
    rm -f "$dir/qwex"
    say "it does not run there: $said" > "$dir/bad"
    say "binary bad it does not run there: $said"
    ;;
esac
