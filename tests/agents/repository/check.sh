#!/bin/sh
# The gate: the greeting is there, and the farewell is right once there is one.
grep -qx 'hello from cove' greeting.txt || exit 1
[ ! -e farewell.txt ] || grep -qx 'goodbye from cove' farewell.txt
