-- Two seeds at once would both find the same users missing.
do $$
begin
    lock table users in share row exclusive mode;
end
$$;

-- Eight users whose values are hard on CSV: the first rows of every export.

insert into users (
    name, email, country, city, bio, balance, is_active,
    birth_date, signup_at, last_login_at
)
select * from (
    values
    ('O''Brien, "Bob"', 'bob@example.com', 'IE', 'Dún Laoghaire',
        'Said "hello, world".', 0.00, true,
        date '1970-01-01', timestamptz '2020-02-29 23:59:59.999999+00', null::timestamptz),
    ('Zoë Müller', 'zoe@example.com', 'DE', 'Köln',
        E'two\nlines', -1234.56, false,
        null, '2020-03-01 00:00:00+00', '2020-03-01 00:00:00+00'),
    ('山田 太郎', 'taro@example.com', 'JP', '東京',
        E'carriage\r\nreturn', 9999999999.99, true,
        '0001-01-01', '2020-03-02 12:00:00+00', 'infinity'),
    ('', 'empty@example.com', 'US', '', '', 0.01, true,
        '9999-12-31', '2020-03-03 12:00:00+00', null),
    ('NULL', 'null@example.com', 'US', null, null, 1.00, false,
        null, '2020-03-04 12:00:00+00', null),
    (E'tab\tbed', 'tab@example.com', 'FR', 'Saint-Étienne',
        E'back\\slash, \\N and \\.', 12.30, true,
        '1999-12-31', '2020-03-05 12:00:00+00', '2020-03-06 00:00:00.5+00'),
    ('=cmd|''/c calc''!A1', 'formula@example.com', 'GB', '+44', '@SUM(1,1)',
        -0.01, true, '2000-02-29', '2020-03-07 12:00:00+00', null),
    ('🙂 emoji', 'emoji@example.com', 'BR', 'São Paulo',
        E'"\n",\n""', 5.55, true, '1985-06-15', '2020-03-08 12:00:00+00', null)
) as awkward
where not exists (select from users);
