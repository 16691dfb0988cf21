-- Tables with forty-odd types, and rows that are awkward in a file.
--
-- `forty_types` has one column for each type; `app.orders` and `app.lines` give
-- joins something to find.  csv_reader may read all of them.

create schema app;
grant usage on schema app to csv_reader;

create type mood as enum ('sad', 'ok, I guess', '"happy"');
create domain positive as integer check (value > 0);
create type app.level as enum ('low', '=high');
create domain app.code as text check (value ~ '^[A-Z]*$');
create type app.money_in as (amount numeric(10, 2), currency char(3));

create table forty_types (
    id integer primary key,
    c_smallint smallint,
    c_bigint bigint,
    c_numeric numeric,
    c_numeric_scaled numeric(12, 3),
    c_real real,
    c_double double precision,
    c_money money,
    c_text text,
    c_varchar varchar(20),
    c_char char(5),
    c_name name,
    c_tiny "char",
    c_bytea bytea,
    c_boolean boolean,
    c_date date,
    c_time time,
    c_timetz timetz,
    c_timestamp timestamp,
    c_timestamptz timestamptz,
    c_interval interval,
    c_uuid uuid,
    c_json json,
    c_jsonb jsonb,
    c_xml xml,
    c_inet inet,
    c_cidr cidr,
    c_macaddr macaddr,
    c_macaddr8 macaddr8,
    c_bit bit(3),
    c_varbit varbit,
    c_point point,
    c_line line,
    c_lseg lseg,
    c_box box,
    c_path path,
    c_polygon polygon,
    c_circle circle,
    c_int4range int4range,
    c_numrange numrange,
    c_tstzrange tstzrange,
    c_int4multirange int4multirange,
    c_tsvector tsvector,
    c_tsquery tsquery,
    c_pg_lsn pg_lsn,
    c_oid oid,
    c_regclass regclass,
    c_mood mood,
    c_positive positive,
    c_level app.level,
    c_code app.code,
    c_money_in app.money_in,
    c_integers integer[],
    c_texts text[],
    c_moods mood[],
    c_money_ins app.money_in[],
    "Mixed ""Case"", 100%" text
);

insert into forty_types (
    id, c_smallint, c_bigint, c_numeric, c_numeric_scaled, c_real, c_double, c_money,
    c_text, c_varchar, c_char, c_name, c_tiny, c_bytea, c_boolean,
    c_date, c_time, c_timetz, c_timestamp, c_timestamptz, c_interval, c_uuid,
    c_json, c_jsonb, c_inet, c_cidr, c_macaddr, c_macaddr8, c_bit, c_varbit,
    c_point, c_line, c_lseg, c_box, c_path, c_polygon, c_circle,
    c_int4range, c_numrange, c_tstzrange, c_int4multirange,
    c_tsvector, c_tsquery, c_pg_lsn, c_oid, c_regclass,
    c_mood, c_positive, c_level, c_code, c_money_in,
    c_integers, c_texts, c_moods, c_money_ins, "Mixed ""Case"", 100%"
) values
(
    1, -32768, 9223372036854775807, 12345678901234567890.12345678901234567890, -0.001,
    1.1754944e-38, 0.1, '$1,234.56',
    e'comma, "quote", line\nbreak, carriage\rreturn, tab\t, back\\slash', 'é ☃ 😀', 'ab', 'a name',
    'x', '\x00ff0a2c22', true,
    '2024-02-29', '24:00', '12:34:56.789+05:45', '2024-02-29 12:34:56.789012',
    '2024-03-31 01:30:00+00', '1 year -2 months 3 days -04:05:06.789',
    'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11',
    e'{"pretty":\n  [1, "a\\nb", null],\r\n\t"a": 1, "a": 2}', '{"b": [1.50, {"c": null}], "a": "\"é"}',
    '192.168.1.5/24', '10.1.0.0/16', '08:00:2b:01:02:03',
    '08:00:2b:01:02:03:04:05', '101', '11110000',
    '(1.5,-2)', '{1,-1,0}', '[(0,0),(1,1)]', '(3,4),(1,2)', '[(0,0),(1,1),(2,0)]',
    '((0,0),(1,1),(2,0))', '<(1,2),3>',
    '[1,10)', '(1.5,)', '[2024-01-01 00:00+00,2024-02-01 00:00+00)', '{[1,3),[5,8)}',
    '''a '':1A ''fat'':2B cat', 'fat & (rat | !cat:*)', '16/B374D848', 4294967295, 'pg_class',
    '"happy"', 1, '=high', 'ABC', '(12.50,EUR)',
    '{1,NULL,3}', e'{"a,b","c\\"d",NULL,"NULL","","line\nbreak"}', '{sad,"ok, I guess"}',
    '{"(1.00,USD)","(,)"}', '100%% %s'
),
(
    2, 32767, -9223372036854775808, 'NaN', 999999999.999, 'infinity', '-infinity', '-$0.01',
    '', '', '', '', '', '', false,
    'infinity', '00:00', '00:00-12', '-infinity', 'infinity', '0',
    '00000000-0000-0000-0000-000000000000',
    'null', 'null', '::1', '::/0', '00:00:00:00:00:00', '00:00:00:00:00:00:00:00', '000', '',
    '(0,0)', '{0,1,-2.5}', '[(1e300,1e-300),(0,0)]', '(0,0),(0,0)', '((0,0))', '((0,0))', '<(0,0),0>',
    'empty', 'empty', '(,)', '{}', '', '', '0/0', 0, 0,
    'sad', 2147483647, 'low', '', '(,)',
    '{}', '{}', '{}', '{}', ''
),
(
    3, 0, 0, '-infinity', 0, '-0', 'NaN', '0',
    '\.', 'NULL', '\N', '=1+1', '=', '\x2e0a', true,
    '4713-01-01 BC', '23:59:59.999999', '23:59:59+14', '0044-03-15 12:00:00 BC',
    '1883-11-18 12:03:57+00', '-178000000 years', 'ffffffff-ffff-ffff-ffff-ffffffffffff',
    '"\u00e9 \\u0041"', '"=1+1"', '0.0.0.0/0', 'fe80::/10', 'ff:ff:ff:ff:ff:ff',
    'ff:ff:ff:ff:ff:ff:ff:ff', '111', '1',
    '(Infinity,NaN)', '{1,0,-3}', '[(-1,-1),(1,1)]', '(Infinity,1),(0,0)', '[(1,2)]', '((1,2),(3,4))',
    '<(-1.5,0.1),1e10>',
    '(,5)', '[0.1,0.1]', '["0044-03-15 12:00:00+00 BC",infinity]', '{(,)}',
    '''O''''Brien''', '''a b'' <-> c', 'FFFFFFFF/FFFFFFFF', 1, 4000000000,
    'ok, I guess', 7, '=high', 'Z', '(-1.00,"$, ")',
    '[0:2]={7,8,9}', '{{a,b},{"{","}"}}', '{NULL}', null, e'\t'
);
insert into forty_types (id) values (4);  -- the rest is null

do $$
begin
    update forty_types set c_xml = case id
        when 1 then e'<a b="1">x, y\n&amp;</a>' when 2 then '' when 3 then '=1+1' end::xml;
exception when feature_not_supported then
    null;  -- a server that was built without libxml
end
$$;

create table app.orders (
    id bigint generated always as identity primary key,
    placed_at timestamptz not null,
    total app.money_in,
    state app.level not null,
    tags text[],
    extra jsonb
);
insert into app.orders (placed_at, total, state, tags, extra)
select timestamptz '2024-01-01 00:00+00' + n * interval '7 hours',
    (n * 1.25, (array['EUR', 'USD', 'JPY'])[n % 3 + 1])::app.money_in,
    case when n % 3 = 0 then '=high' else 'low' end::app.level,
    case when n % 4 > 0 then (array['a', 'b', 'c'])[:n % 4] end,
    case when n % 5 > 0 then jsonb_build_object('n', n, 'even', n % 2 = 0) end
from generate_series(1, 20) as n;

create table app.lines (
    order_id bigint references app.orders,
    line smallint,
    code app.code,
    price numeric(10, 2),
    weight real,
    during daterange,
    note varchar(30),
    primary key (order_id, line)
);
insert into app.lines
select o, l, chr(64 + (o + l) % 26 + 1), o * l / 3.0, case when l > 1 then o / 7.0 end,
    daterange('2024-01-01', date '2024-01-01' + l), nullif(repeat('é"', l), 'é"')
from generate_series(1, 20) as o, generate_series(1, 3) as l;

grant select on forty_types, app.orders, app.lines to csv_reader;
analyze forty_types, app.orders, app.lines;
