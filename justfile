# Shortcuts; each is one `cargo xtask …`.

# Arguments reach it as they are, with the spaces in them.
set positional-arguments

[private]
default:
    @just --list

# Make a fresh clone ready
setup *ARGS:
    cargo xtask setup "$@"

# Bring this branch's managed files up to date
sync *ARGS:
    cargo xtask sync "$@"

# Where this branch stands
status *ARGS:
    cargo xtask status "$@"

# Bring every branch to the canonical state, without checking any out
propagate *ARGS:
    cargo xtask propagate "$@"

# Take the managed part of approved commits into the canonical branch
reverse-sync *ARGS:
    cargo xtask reverse-sync "$@"

# Collect what a branch changes at managed paths, ready to be taken in
extract *ARGS:
    cargo xtask extract "$@"

# Take collected changes into the canonical branch
promote *ARGS:
    cargo xtask promote "$@"

# `git push`, then open or update the pull request of what it pushed
push *ARGS:
    cargo xtask push "$@"

# Start the local services, and wait until they are ready
start *ARGS:
    cargo xtask start "$@"

# End the local services, and prove that nothing is left
stop *ARGS:
    cargo xtask stop "$@"

# Say whether this checkout is healthy
validate *ARGS:
    cargo xtask validate "$@"

# Save what git would not bring back
backup *ARGS:
    cargo xtask backup "$@"

# Bring back what a backup holds
restore *ARGS:
    cargo xtask restore "$@"

# Back up everything and reset the worktree to a known-good state
recover *ARGS:
    cargo xtask recover "$@"

# Begin the day
morning:
    git fetch --all
    cargo xtask status
    cargo xtask sync
    cargo xtask validate --fast
    cargo xtask start

# End the day: commits that are nowhere else, and a backup of all that is none
evening:
    git --no-pager log --oneline --branches --not --remotes
    cargo xtask backup --label evening
    cargo xtask stop

# Install git hooks that keep branches up to date by themselves
install-hooks *ARGS:
    cargo xtask install-hooks "$@"

# Play the daily story in a temporary place
demo *ARGS:
    cargo xtask demo "$@"

# Run all tests
test *ARGS:
    cargo xtest "$@"
