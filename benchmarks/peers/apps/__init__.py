"""The apps. Each module has `make(variant, redis_url)`, which gives the app as it is, the same app guarded, a token that is
good, and some that must be refused. They are written against packages of other environments than the tests', so no type
checker sees them."""
