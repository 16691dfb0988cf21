-- Fill users up to the id `seeds.rows` (1,000,000 unless it is set), the same
-- ones every time.  Repeating it, or asking for more, adds only what is missing.

insert into users (
    name, email, country, city, bio, balance, is_active,
    birth_date, signup_at, last_login_at
)
select
    first_names[1 + h1 % 16] || ' ' || last_names[1 + h2 % 16],
    'user' || n || '@example.com',
    countries[1 + h3 % 8],
    case when h4 % 10 > 0 then cities[1 + h3 % 8] end,
    case h1 % 20
        when 0 then 'Likes "quotes", commas and ' || n
        when 1 then E'First line\nsecond line'
        when 2 then 'Crème brûlée, naïveté, 漢字'
        when 3 then ''
        when 4 then 'Plain text about user ' || n
    end,
    (h2::bigint * 7919 + h3) % 10000000 / 100.0 - 1000,
    h3 % 7 > 0,
    case when h2 % 9 > 0 then date '1940-01-01' + h1 % 25000 end,
    timestamptz '2015-01-01 00:00:00+00' + n * interval '5 minutes',
    case when h4 % 4 > 0 then
        timestamptz '2025-01-01 00:00:00+00' + (h4 % 30000000) * interval '1 second'
    end
from generate_series(
    (select coalesce(max(id), 0) + 1 from users),
    coalesce(nullif(current_setting('seeds.rows', true), ''), '1000000')::bigint
) as n
cross join lateral (
    -- no random(): multiplicative hashes of the row's number
    select
        (n * 2654435761 >> 7 & 1048575)::int,
        (n * 2246822519 >> 9 & 1048575)::int,
        (n * 3266489917 >> 11 & 1048575)::int,
        (n * 668265263 >> 5 & 67108863)::int
) as hash (h1, h2, h3, h4)
cross join (
    values (
        array['Ada', 'Björn', 'Chloé', 'Dmitri', 'Elif', 'Fatima', 'Goran', 'Hana',
            'Ines', 'Jürgen', 'Kofi', 'Łucja', 'Mei', 'Niamh', 'Óscar', 'Priya'],
        array['Andersson', 'O''Neill', 'García', 'Ivanova', 'Yılmaz', 'Haddad', 'Kovač', 'Sato',
            'Silva', 'Weiß', 'Mensah', 'Nowak', 'Chen', 'Murphy', 'Núñez', 'Sharma'],
        array['SE', 'IE', 'ES', 'DE', 'TR', 'JP', 'GH', 'IN'],
        array['Malmö', 'Cork', 'Cádiz', 'Köln', 'İzmir', 'Kyōto', 'Accra', 'Pune']
    )
) as names (first_names, last_names, countries, cities)
order by n;

analyze users;
