import re
from datetime import timedelta
from io import StringIO

import pytest
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.utils import timezone
from knox.auth import TokenAuthentication
from knox.models import AuthToken

# Tokens do not depend on the database.
pytestmark = [pytest.mark.django_db, pytest.mark.sqlite_only]


def token(*arguments: str) -> str:
    out = StringIO()
    call_command("token", *arguments, stdout=out)
    return out.getvalue()


@pytest.fixture(autouse=True)
def admin():
    return get_user_model().objects.create_superuser("admin")


@pytest.fixture
def ada():
    return get_user_model().objects.create_user("ada")


def test_its_last_word_is_a_token_that_works(ada):
    last = token("ada").split()[-1]

    user, _ = TokenAuthentication().authenticate_credentials(last.encode())
    assert user == ada


def test_it_is_stored_as_a_hash_only(ada):
    last = token("ada").split()[-1]

    assert last not in str(AuthToken.objects.values().get())


def test_it_is_valid_for_the_days_asked_for(ada):
    said = token("ada", "--days", "3")

    expiry = AuthToken.objects.get().expiry
    assert abs(expiry - timezone.now() - timedelta(days=3)) < timedelta(minutes=1)
    assert re.match(rf"Valid until {expiry:%Y-%m-%d}", said)


@pytest.mark.parametrize("days", ["0", "-1", "3651", "many"])
def test_other_numbers_of_days_are_refused(ada, days):
    with pytest.raises(CommandError, match="not a whole number from 1 to 3650"):
        token("ada", f"--days={days}")


def test_an_unknown_user_is_refused():
    with pytest.raises(CommandError, match="no active user 'nobody'"):
        token("nobody")


def test_a_user_who_may_not_log_in_gets_no_token(ada):
    ada.is_active = False
    ada.save()

    with pytest.raises(CommandError, match="no active user 'ada'"):
        token("ada")
    assert not AuthToken.objects.exists()
