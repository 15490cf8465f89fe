"""Fail unless the demo learnt the digits and its session predicts as the model did."""

import json
import sys
from pathlib import Path

result = json.loads(Path(sys.argv[1]).read_text())
print({key: result[key] for key in ("test_accuracy", "session_accuracy", "seconds")})
assert result["test_accuracy"] >= 0.985
assert result["session_accuracy"] == result["test_accuracy"]
