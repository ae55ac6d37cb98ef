"""---
title: Reference
description: Every public name of the package, with its parameters, what it returns and what it refuses.
---"""
from reference import page

print(page())
