"""The tests. None of them uses the developer's own Hub: cache, token and settings are read when
huggingface_hub is imported, which is after this."""

import atexit
import os
import shutil
import tempfile

for _name in [name for name in os.environ if name.startswith(("HF_", "HUGGING"))]:
    del os.environ[_name]
os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="fwlocal-hub-")
os.environ["HF_HUB_DOWNLOAD_TIMEOUT"] = "1"
atexit.register(shutil.rmtree, os.environ["HF_HOME"], ignore_errors=True)
