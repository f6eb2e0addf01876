import sys
from pathlib import Path

# So that the tests of this folder can import `pixelwise`.
sys.path.insert(0, str(Path(__file__).parent))
