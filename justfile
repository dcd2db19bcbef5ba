# Shortcuts; each is one `cargo xtask …`.

[private]
default:
    @just --list

# Make a fresh clone ready
setup:
    cargo xtask setup

# Bring this branch's managed files up to date
sync *ARGS:
    cargo xtask sync {{ ARGS }}

# Where this branch stands
status *ARGS:
    cargo xtask status {{ ARGS }}

# Run all tests
test:
    cargo xtest
