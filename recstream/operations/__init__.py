"""Operations on a set-up or a store, behind the commands: check, inspect, compare, mend, upgrade."""
