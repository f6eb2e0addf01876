import sys
from pathlib import Path

# So that the tests of this folder can import `networks`.
sys.path.insert(0, str(Path(__file__).parent))
