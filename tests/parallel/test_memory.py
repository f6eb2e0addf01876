import platform

from vitjax.parallel.memory import keep_freed_memory


def test_glibc_takes_the_settings():
    assert keep_freed_memory() == (platform.libc_ver()[0] == "glibc")
