insert into test_tsvector
select words, words::tsvector
from (
    select string_agg(chr(97 + (n * 7 + k * 11) % 26) || chr(97 + (n + k * k) % 26), ' ') as words
    from generate_series(1, 500) as n, generate_series(1, 20) as k group by n
    union all values
        ('wr qh'), ('eq yt'), ('pl yh'), ('qe x qt'), ('wr:1A qh:2B eq:3C yt:4D'), ('')
) as _;
